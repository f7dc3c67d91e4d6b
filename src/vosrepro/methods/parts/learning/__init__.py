"""What only the training of `parts` needs: pairs of frames, losses of masks, and the own guess of a mask."""
