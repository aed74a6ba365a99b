"""How good and how alike: COCO AP of keypoints and boxes, PCKh, OKS, agreement of two networks."""
