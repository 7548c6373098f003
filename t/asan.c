/*
 * nginx with AddressSanitizer: compiled in, as a binary that takes the place of another one has no environment that says so.
 */


/* A module has its own table of modules, by the same name as nginx's. */

const char *
__asan_default_options(void)
{
    return "detect_odr_violation=0:detect_stack_use_after_return=1";
}


const char *
__lsan_default_options(void)
{
    return "print_suppressions=0";
}


/*
 * nginx's own findings. The connections and events of a worker: there until the process ends. What PCRE is told of how to allocate:
 * the same in the master.
 */

const char *
__lsan_default_suppressions(void)
{
    return "leak:ngx_event_process_init\nleak:ngx_regex_malloc\n";
}
