"""Training of the embedded camera-motion network on pictures that a virtual camera moves over."""
