"""Looking at results image by image, in a browser: a small server on this machine, or a static site."""
