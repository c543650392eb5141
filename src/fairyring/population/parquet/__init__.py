"""Populations in Parquet files, on a disk or on S3, of which only the row groups that are needed are read.

storage      where files lie, how they are opened, and what is tried again
index        where each client's rows are
ranges       columns of row groups, by few requests
row_groups   those in memory, and those that are read ahead
reader       rows by their numbers
population   the population
writing      a population as files that are read well
"""
