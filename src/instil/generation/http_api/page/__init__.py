"""What a browser needs: the chat page, its tokens view, and who else may call the server from a web page."""
