"""Retention: history that is old enough goes into the archive, and only then out of the database.

Nothing else writes `ArchivedPartition`. Each step leaves a state from which the next run goes on:
archived and compared with history; taken out, so that figures over its span are refused from the
moment on at which its readings are missing; detached, so that nothing can join it; compared once
more and dropped, in one transaction.
"""
