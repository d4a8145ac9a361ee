"""How fast the model, the renderer and the reading of data are on this machine."""
