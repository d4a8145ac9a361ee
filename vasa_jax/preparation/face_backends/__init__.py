"""Back ends that find faces, points and mattes; `base` says what they give."""
