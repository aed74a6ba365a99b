"""A stand-in for Rockchip's rknn-toolkit-lite2, whose only module here is api."""
