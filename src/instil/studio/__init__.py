"""The studio: data, recipe, runs and chat in a browser, on one's own machine.

Everything that a page shows is read from the workspace's folder. Work is started as ``instil`` subprocesses, which
outlive the studio.

Why: a page that keeps state in memory loses it on reload, and shows nothing of what was started in a terminal.
"""
