"""Sources of data, and the view that a network has of them."""
