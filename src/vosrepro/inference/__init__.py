"""Running a method over videos: reading, resizing, id remapping, timing, masks; the same for all methods."""
