#include <mpi.h>
#include <omp.h>
#include <stdio.h>

int main(int argc, char **argv) {
    int rank, length, given;
    char host[MPI_MAX_PROCESSOR_NAME];
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &given);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Get_processor_name(host, &length);
#pragma omp parallel
    {
#pragma omp critical
        printf("thread %d of %d, process %d on %s\n", omp_get_thread_num(),
               omp_get_num_threads(), rank, host);
    }
    MPI_Finalize();
    return 0;
}
