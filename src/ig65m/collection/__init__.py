"""Collections of videos: listing, sharding, and extraction into a folder, on one machine or a Ray cluster."""
