"""Training of networks: data sets of clips, one training loop, fine-tuning on labelled videos."""
