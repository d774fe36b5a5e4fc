"""What was kept: glue to the senteval package, and agreement with the teacher."""
