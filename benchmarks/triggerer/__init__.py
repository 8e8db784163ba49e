"""Table 2: waits under a real ``airflow triggerer``, beside triggers that do nothing but sleep."""
