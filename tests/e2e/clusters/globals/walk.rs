//! All session variables of the servers: each has a value of its own in Atone's sessions, or a reason why none is
//! needed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use atone_tests::server::SERVICE;
use atone_tests::{Flavor, Server, sql};
use atone_undo::{connection_setup, session_variables};
use mysql_async::Conn;

mod variables {
    #[test]
    fn mariadb() {
        atone_tests::run::run_alone(
            atone_tests::Flavor::MariaDb,
            super::variables(atone_tests::Flavor::MariaDb),
        );
    }
    #[test]
    fn mysql() {
        atone_tests::run::run_alone(atone_tests::Flavor::MySql, super::variables(atone_tests::Flavor::MySql));
    }
}

/// Why variables may have any value in a session of Atone's own, and their names. An error that a server gives is
/// none of the dangers: nothing is done then, and the coordinator and `/readyz` show the error.
const HARMLESS: &[(&str, &str)] = &[
    (
        "it bears on how a query is planned or where intermediate rows are kept, not on what it finds",
        "big_tables connection_memory_chunk_size eq_range_index_dive_limit expensive_subquery_limit \
         internal_tmp_mem_storage_engine join_buffer_size join_buffer_space_limit join_cache_level max_heap_table_size \
         max_length_for_sort_data max_rowid_filter_size max_seeks_for_key mrr_buffer_size \
         optimizer_adjust_secondary_key_costs optimizer_extra_pruning_depth optimizer_join_limit_pref_ratio \
         optimizer_max_sel_arg_weight optimizer_max_sel_args optimizer_max_subgraph_pairs optimizer_prune_level \
         optimizer_scan_setup_cost optimizer_search_depth optimizer_selectivity_sampling_limit optimizer_switch \
         optimizer_use_condition_selectivity optimizer_where_cost query_alloc_block_size query_prealloc_size \
         range_alloc_block_size read_buffer_size read_rnd_buffer_size rowid_merge_buff_size secondary_engine_cost_threshold \
         set_operations_buffer_size sort_buffer_size sql_buffer_result tmp_memory_table_size tmp_table_size \
         transaction_alloc_block_size transaction_prealloc_size use_stat_tables new_mode enable_secondary_engine_statistics \
         default_tmp_storage_engine keep_files_on_create innodb_tmpdir innodb_parallel_read_threads",
    ),
    (
        "beyond it the server answers with an error, or ends the connection",
        "connection_memory_limit cte_max_recursion_depth global_connection_memory_tracking max_allowed_packet \
         max_sp_recursion_depth max_tmp_session_space_usage max_user_connections net_buffer_length net_retry_count \
         parser_max_mem_size",
    ),
    (
        "it bears on tables that are made or altered: the undo_log names its engine, its key and its columns' charsets, and its \
         engine and key are looked at when it is there",
        "alter_algorithm character_set_database character_set_server collation_database collation_server \
         column_compression_threshold column_compression_zlib_level column_compression_zlib_strategy \
         column_compression_zlib_wrap default_storage_engine default_table_encryption enforce_storage_engine \
         explicit_defaults_for_timestamp external_table_secondary_storage_engine external_table_storage_engine \
         innodb_compression_default innodb_ddl_buffer_size innodb_ddl_threads innodb_default_encryption_key_id \
         innodb_strict_mode old_alter_table restrict_fk_on_non_standard_key sql_generate_invisible_primary_key sql_if_exists \
         sql_require_primary_key storage_engine system_versioning_alter_history mhnsw_default_distance mhnsw_default_m",
    ),
    (
        "it bears on what Atone's statements do not use: functions, views with LIMIT, LOCK TABLES, recursion, full-text and vector \
         search, DELAYED, files, generated numbers, other engines, ANALYZE, EXPLAIN, SHOW GRANTS' hashes",
        "analyze_max_length analyze_sample_percentage aria_repair_threads aria_sort_buffer_size aria_stats_method \
         auto_increment_increment auto_increment_offset block_encryption_mode bulk_insert_buffer_size character_set_filesystem \
         deadlock_search_depth_long deadlock_search_depth_short deadlock_timeout_long deadlock_timeout_short \
         default_regex_flags default_week_format end_markers_in_json explain_format explain_json_format_version \
         generated_random_password_length histogram_generation_max_mem_size histogram_size histogram_type identity \
         information_schema_stats_expiry innodb_ft_enable_stopword innodb_ft_user_stopword_table innodb_table_locks insert_id \
         last_insert_id low_priority_updates max_delayed_threads max_insert_delayed_threads max_points_in_geometry \
         max_recursive_iterations max_tmp_tables mhnsw_ef_search myisam_repair_threads myisam_sort_buffer_size \
         myisam_stats_method old_passwords preload_buffer_size print_identified_with_as_hex rand_seed1 rand_seed2 \
         select_into_buffer_size select_into_disk_sync select_into_disk_sync_delay standard_compliant_cte \
         system_versioning_insert_history transaction_allow_batching updatable_views_with_limit windowing_use_high_precision \
         xa_detach_on_prepare enable_cascade_triggers query_cache_strip_comments query_cache_wlock_invalidate",
    ),
    (
        "it bears on logs, traces and the text of messages",
        "binlog_annotate_row_events binlog_rows_query_log_events lc_messages lc_time_names log_disabled_statements \
         log_queries_not_using_indexes log_slow_admin_statements log_slow_always_query_time log_slow_disabled_statements \
         log_slow_filter log_slow_max_warnings log_slow_min_examined_row_limit log_slow_query log_slow_query_time \
         log_slow_rate_limit log_slow_slave_statements log_slow_verbosity log_warnings long_query_time min_examined_row_limit \
         note_verbosity optimizer_trace optimizer_trace_features optimizer_trace_limit optimizer_trace_max_mem_size \
         optimizer_trace_offset profiling profiling_history_size progress_report_time slow_query_log sql_log_off sql_warnings \
         terminology_use_previous",
    ),
    (
        "it bears on replication in ways that change no row: each statement names its rows by key and its values as literals",
        "binlog_alter_two_phase binlog_direct_non_transactional_updates binlog_format binlog_row_image \
         binlog_row_value_options binlog_transaction_compression binlog_transaction_compression_level_zstd \
         default_master_connection group_replication_consistency gtid_domain_id max_relay_log_size rbr_exec_mode server_id \
         skip_parallel_replication sql_slave_skip_counter wsrep_causal_reads wsrep_gtid_seq_no wsrep_osu_method \
         wsrep_retry_autocommit wsrep_sync_wait wsrep_trx_fragment_size wsrep_trx_fragment_unit wsrep_dirty_reads",
    ),
    (
        "it has no global value and takes a right, which an account that init_connect runs for does not have",
        "gtid_next gtid_seq_no immediate_server_version original_commit_timestamp original_server_version pseudo_replica_mode \
         pseudo_slave_mode pseudo_thread_id require_row_format skip_replication sql_log_bin wsrep_on",
    ),
    (
        "two literals are never compared with each other, and a column's own collation decides over a literal's",
        "character_set_collations default_collation_for_utf8mb4",
    ),
    ("it only takes effect where the client has asked for it", "resultset_metadata redirect_url"),
    (
        "it only adds to what the server says beside a reply",
        "session_track_gtids session_track_schema session_track_state_change session_track_system_variables \
         session_track_transaction_info",
    ),
    ("it bears on the threads and sockets that serve a session", "tcp_nodelay thread_pool_priority"),
    ("it is another name of one that is set", "transaction_isolation transaction_read_only"),
    ("no version that is supported lets it change what is found", "old show_create_table_verbosity"),
    ("foreign keys are looked for on MariaDB by its warnings, and there it has a value", "max_error_count"),
];

/// What variables are set to globally, the first of which a server takes and that is another than it has.
const OTHER: [&str; 13] = [
    "1",
    "0",
    "4",
    "64",
    "8192",
    "65536",
    "1048576",
    "'latin1'",
    "'latin1_bin'",
    "'ANSI'",
    "'SERIALIZABLE'",
    "'2001-01-01'",
    "'-11:00'",
];

async fn variables(flavor: Flavor) -> Result<()> {
    let server = Server::start(flavor).await?;
    let mariadb = flavor == Flavor::MariaDb;
    let mut admin = server.admin().await?;
    let ours: BTreeSet<&str> = session_variables(mariadb).into_iter().collect();
    let harmless: BTreeSet<&str> = HARMLESS.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    let all = session_settable(&mut admin, flavor).await?;
    let unknown: Vec<&String> = all
        .iter()
        .filter(|name| !ours.contains(name.as_str()) && !harmless.contains(name.as_str()))
        .collect();
    ensure!(unknown.is_empty(), "what could these bend in a session of Atone's own? {unknown:?}");

    // The values do not depend on the globals
    let straight = settings(&server, &ours).await?;
    let mut bent = Vec::new();
    for name in &ours {
        let was = straight.get(*name).with_context(|| format!("there is no {name}"))?;
        // With less than this nobody could log in
        let least = if *name == "max_session_mem_used" { 1_000_000 } else { 0 };
        for other in OTHER.iter().filter(|other| least == 0 || other.parse::<u64>().is_ok_and(|n| n >= least))
        {
            let taken = sql::run(&mut admin, format!("SET GLOBAL {name} = {other}")).await.is_ok();
            if taken && sql::cell(&mut admin, format!("SELECT @@global.{name}")).await? != *was {
                bent.push(*name);
                break;
            }
        }
    }
    let other = settings(&server, &ours).await?;
    for (name, was) in &straight {
        // The clock
        ensure!(
            other.get(name) == Some(was) || name == "timestamp",
            "{name}: {was}, then {:?}",
            other.get(name)
        );
    }
    for name in
        ["sql_select_limit", "max_join_size", "autocommit", "completion_type", "sql_mode", "wait_timeout"]
    {
        ensure!(bent.contains(&name), "{name} was not bent: {bent:?}");
    }
    Ok(())
}

/// The variables that a session can set.
async fn session_settable(admin: &mut Conn, flavor: Flavor) -> Result<BTreeSet<String>> {
    let names = sql::rows(admin, "SHOW SESSION VARIABLES").await?;
    let names = names.iter().filter_map(|row| row.split('|').next()).map(str::to_lowercase);
    if flavor == Flavor::MariaDb {
        let names = sql::rows(
            admin,
            "SELECT LOWER(VARIABLE_NAME) FROM information_schema.SYSTEM_VARIABLES \
             WHERE VARIABLE_SCOPE LIKE 'SESSION%' AND READ_ONLY = 'NO'",
        )
        .await?;
        return Ok(names.into_iter().collect());
    }
    let mut out = BTreeSet::new();
    for name in names {
        let set = sql::run(admin, format!("SET SESSION {name} = DEFAULT")).await;
        let error = set.err().and_then(|e| e.downcast::<mysql_async::Error>().ok());
        // ER_INCORRECT_GLOBAL_LOCAL_VAR, ER_LOCAL_VARIABLE, ER_GLOBAL_VARIABLE
        if !matches!(error, Some(mysql_async::Error::Server(e)) if matches!(e.code, 1228 | 1229 | 1238)) {
            out.insert(name);
        }
    }
    Ok(out)
}

/// What the variables are in a session of the service account that begins as Atone's do.
async fn settings(server: &Server, names: &BTreeSet<&str>) -> Result<BTreeMap<String, String>> {
    let mut conn = sql::connect(server.port(), SERVICE, None).await?;
    for statement in connection_setup() {
        sql::run(&mut conn, statement).await?;
    }
    let mut out = BTreeMap::new();
    for row in sql::rows(&mut conn, "SHOW SESSION VARIABLES").await? {
        if let Some((name, value)) = row.split_once('|')
            && names.contains(name)
        {
            out.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(out)
}
