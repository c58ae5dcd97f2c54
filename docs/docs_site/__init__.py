"""What only the docs site needs: navigation, languages, search, formulas."""
