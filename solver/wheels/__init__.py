"""A folder of wheels that a machine without internet installs from: what is in it, what it lacks."""
