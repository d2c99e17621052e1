create type order_status as enum ('new', 'paid', 'shipped');
create table orders (
    order_id uuid primary key,
    masked_email text not null,
    mail_domain text,
    country varchar(2) not null,
    total numeric(12, 2) not null,
    currency text not null,
    status order_status not null,
    tags text[],
    first_sku text,
    items jsonb not null,
    placed_at timestamptz not null,
    shipped_at timestamptz,
    sent_at timestamptz not null,
    run_id text
);
