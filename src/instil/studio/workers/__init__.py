"""Helper processes of the studio, which hold what the server must not load; rows by their byte, which both read."""
