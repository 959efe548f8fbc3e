"""Training of the embedded camera-motion network on photographs seen by a virtual camera."""
