"""Recipes while they are written: the form made from the schema, its text as YAML, and the command line.

The text is the draft. The form is made from it, and an input of the form changes the text where its setting stands; so
comments and the order of what a person wrote stay.
"""
