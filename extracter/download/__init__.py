"""Where raw data comes from: pinned files over HTTP, Google Drive, a user's own folders, or images in scikit-image."""
