"""Show what a student kept: scores by the senteval package, and a comparison with the teacher."""
