"""What is declared, checked where it enters: model.yaml, chip.yaml, sets of keypoints and classes, make's variables."""
