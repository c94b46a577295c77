"""Super-resolution of images of any size within a memory budget: a global search, and the network tile by tile."""
