"""Rendered people: articulated, dressed figures in cluttered scenes, with COCO-17 keypoints that are exactly right."""
