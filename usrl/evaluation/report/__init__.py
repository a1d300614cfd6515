"""What a comparison shows: the HTML report, its pictures, diagrams and films, and its tables as files."""
