"""A wheelhouse, from which a machine without internet installs: its manifest, and missing wheels."""
