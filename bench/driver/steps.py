"""Where the time of a fact goes, step by step: the path programs, run plainly (nanoseconds) and under callgrind (instructions)."""


def measure(quick):
    return []
