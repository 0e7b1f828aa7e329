# %% [markdown]
# # The nine operations of the assignment, from Python
#
# Each cell is one operation on the weather of nine stations. Editors such as VS Code run cell after cell; `python example.py`
# runs all of them. A cluster must be there that speaks XML-RPC, such as, in the folder `tasca1`:
#
#     MIDDLEWARE=xmlrpc docker compose up
#
# `DATAFRAME_MASTER` names another master, and `DATAFRAME_FILES` other files; the workers read them.

# %%
import os

import dataframe as dd

client = dd.Client(os.environ.get("DATAFRAME_MASTER", "http://localhost:9000"))
print([worker["name"] for worker in client.workers()] if client.address.startswith("http") else client)

# %% [markdown]
# ## 1. `read_csv`
# Nothing is read yet: `df` is a list of operations.

# %%
df = dd.read_csv(os.environ.get("DATAFRAME_FILES", "/data/*.csv"))
print(df, df.operations, len(df))

# %% [markdown]
# ## 2. `apply`
# An expression in SQL, or columns with operators. A Python function would have to travel, and is refused.

# %%
print(df.apply("x * 2 + length(name)").head(3))
print((df.x * 2 + df.name.str.len()).head(3))
try:
    df.apply(lambda row: row["x"] * 2)
except TypeError as refusal:
    print(refusal)

# %% [markdown]
# ## 3. `columns`

# %%
print(list(df.columns))

# %% [markdown]
# ## 4. `groupby`
# The workers add up sums and counts; the master puts them together.

# %%
print(df.groupby("name").x.mean().compute())
print(df.groupby("name").agg(coldest=("x", "min"), warmest=("x", "max"), days=("x", "count")).compute())

# %% [markdown]
# ## 5. `head`

# %%
print(df.head(3))

# %% [markdown]
# ## 6. `isin`

# %%
print(df[df.name.isin(["Ushuaia", "Salta"])].head(3, npartitions=-1))
print(df.x.isin([1, 2, 3]).head(3))

# %% [markdown]
# ## 7. `items`

# %%
for name, column in df.items():
    print(name, "has", column.nunique().compute(), "distinct values")

# %% [markdown]
# ## 8. `max`

# %%
print(df.max().compute())

# %% [markdown]
# ## 9. `min`

# %%
print(df[["x", "y"]].min().compute(), df.x.min().compute())

# %% [markdown]
# ## Together
# A new column, a condition, groups, and the order of the result: one list of operations, computed in one go.

# %%
df["fahrenheit"] = df.x * 9 / 5 + 32
warm = df[(df.x > 20) & df.sky.notna()].groupby(["sky", "name"]).fahrenheit.max().reset_index()
print(warm.sort_values("fahrenheit", ascending=False).head(5))
client.close()
