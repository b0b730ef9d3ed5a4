"""Retention: copy old history into the archive, and only then drop it from the database.

Nothing else writes `ArchivedPartition`. After each step, the next run can continue: a partition is
archived and compared with history; taken out, so that figures over its period are refused as soon
as readings are missing; detached, so that no reading can be added; compared again and dropped, in
one transaction.

Nothing here decides which readings are accepted.
"""
