"""How it looks: pages, charts, viewers, files for other tools."""
