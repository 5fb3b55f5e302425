"""What a step of stage 2 costs beside one of stage 1, and what it could not do without."""
