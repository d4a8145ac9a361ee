"""Labels that networks of the user's make: emotion, gaze, distance."""
