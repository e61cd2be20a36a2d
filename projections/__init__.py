"""The pure core: event types, the folds over them, and the rules. Standard library only."""
