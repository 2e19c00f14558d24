-- Each query must return no rows.

-- preparing_is_watched: a deal that is not prepared is looked at again.
SELECT id FROM deals WHERE phase = 'preparing' AND step_deadline IS NULL;
