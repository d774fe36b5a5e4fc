"""All that downloads: where files are had from, how they are moved, checked and unpacked."""
