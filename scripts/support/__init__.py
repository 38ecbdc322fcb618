"""What all scripts share: folders, processes, progress lines, interrupts. Standard library only."""
