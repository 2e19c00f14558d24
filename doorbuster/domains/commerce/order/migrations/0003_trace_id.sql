-- The trace in which each step was taken, so that a timeline leads to its traces; null for a step that was not traced.
ALTER TABLE transition ADD COLUMN trace_id text;
