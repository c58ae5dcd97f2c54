"""Views: records as HTML for notebooks, the frame of whole pages, and what pages and terminal share with them.

Nothing here knows a record of another package. A record passes the values to show, so every package can use the views.

Why: a notebook shows what comes from data. All text is escaped, no script is written and nothing is loaded.
"""
