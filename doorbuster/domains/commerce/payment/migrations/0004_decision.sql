-- Why an attempt was made where it was made.

CREATE TABLE decision (                    -- what an attempt follows, whole, so that it can be made again and compared
    payment_id uuid NOT NULL,              -- of attempt; written in the same statement
    number     int NOT NULL,
    document   json NOT NULL,
    PRIMARY KEY (payment_id, number)
);
