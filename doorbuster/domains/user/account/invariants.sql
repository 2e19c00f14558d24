-- Each query must return no rows, at any moment, whatever was killed.

-- one_live_token: a family has at most one refresh token that was not used.
SELECT family_id FROM refresh_tokens WHERE used_at IS NULL GROUP BY family_id HAVING count(*) > 1;

-- family_outlives_tokens: no token is good for longer than its family says.
SELECT f.id FROM families f JOIN refresh_tokens t ON t.family_id = f.id WHERE t.expires_at > f.expires_at;

-- everybody_is_a_shopper: roles are added to the one that sign-up gives.
SELECT id FROM accounts WHERE NOT 'shopper' = ANY (roles);
