"""Many videos from one file of shots, and the page that shows them."""
