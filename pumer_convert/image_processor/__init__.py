"""From a picture file to what a model takes, by what the processor's files say."""
