"""leanpose: efficient 2D human pose estimation. `Predictor("lpn50")("photo.jpg")` returns Poses."""
