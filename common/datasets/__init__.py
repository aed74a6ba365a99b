"""Image sets and their annotations in the layouts that people have, and the pictures and clips of users."""
