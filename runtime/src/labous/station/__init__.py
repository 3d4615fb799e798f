"""The station: a pipeline file becomes nodes, which run for months.

settings and pipeline_file say what is to run, runner runs it, counters and status tell how it fares, observations are
what it finds.
"""
