"""Things to click on. They call the rest of the package, which never calls them."""
