"""What all layers share: words, errors, files, labels, machine, provenance."""
