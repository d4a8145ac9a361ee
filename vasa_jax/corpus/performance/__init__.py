"""What a head does while it speaks: lips, gaze, blinks, brows and turns."""
