"""Pictures: skeletons, boxes and maps, float beside chip."""
